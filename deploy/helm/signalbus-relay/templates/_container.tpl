{{- define "signalbus-relay.container" -}}
name: relay
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- if .Values.tables }}
  - name: SIGNALBUS_RELAY_TABLE
    value: {{ join "," .Values.tables | quote }}
  - name: SIGNALBUS_RELAY_DATABASE_URL_FILE
    value: /run/secrets/signalbus/{{ .Values.databaseUrlKey }}
  {{- else }}
  - name: SIGNALBUS_RELAY_APP
    value: {{ .Values.app | quote }}
  {{- with .Values.databaseUrlVariable }}
  - name: {{ . }}
    valueFrom:
      secretKeyRef:
        name: {{ $.Values.existingSecret }}
        key: {{ $.Values.databaseUrlKey }}
  {{- end }}
  {{- end }}
  - name: SIGNALBUS_RELAY_AMQP_URL_FILE
    value: /run/secrets/signalbus/{{ .Values.amqpUrlKey }}
  {{- with .Values.operatorTokenKey }}
  - name: SIGNALBUS_RELAY_OPERATOR_TOKEN_FILE
    value: /run/secrets/signalbus/{{ . }}
  {{- end }}
  - name: SIGNALBUS_RELAY_HTTP
    value: 0.0.0.0:9109
  {{- range $name, $value := .Values.options }}
  - name: SIGNALBUS_RELAY_{{ $name }}
    value: {{ $value | toString | quote }}
  {{- end }}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - name: {{ include "signalbus-relay.port" . }}
    containerPort: 9109
startupProbe:
  httpGet:
    path: /livez
    port: {{ include "signalbus-relay.port" . }}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /livez
    port: {{ include "signalbus-relay.port" . }}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
{{- if not .Values.sidecar }}
readinessProbe:
  httpGet:
    path: /readyz
    port: http
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: signalbus-secrets
    mountPath: /run/secrets/signalbus
    readOnly: true
{{- end -}}

{{- define "signalbus-relay.port" -}}
{{ .Values.sidecar | ternary "relay" "http" }}
{{- end -}}

{{- define "signalbus-relay.volume" -}}
name: signalbus-secrets
secret:
  secretName: {{ .Values.existingSecret }}
  defaultMode: 0440
{{- end -}}

{{- /* For the application's chart: under initContainers, and under volumes. A broker that is away must not take the
application out of service, so the relay has no readiness probe here. */ -}}
{{- define "signalbus-relay.sidecar" -}}
{{ include "signalbus-relay.container" . }}
restartPolicy: Always
command: [signalbus-relay]
args: [run]
{{- end -}}
