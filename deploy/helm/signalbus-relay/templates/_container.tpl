{{- define "signalbus-relay.container" -}}
name: relay
{{ include "signalbus-relay.program" . }}
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
{{- end -}}

{{- /* What the relay and the check have in common: image, variables, rights, files. */ -}}
{{- define "signalbus-relay.program" -}}
image: {{ include "signalbus-relay.image" . }}
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
  {{- range $name, $value := omit .Values.options "HTTP_HOSTS" }}
  - name: SIGNALBUS_RELAY_{{ $name }}
    value: {{ $value | toString | quote }}
  {{- end }}
  {{- with include "signalbus-relay.hosts" . }}
  - name: SIGNALBUS_RELAY_HTTP_HOSTS
    value: {{ . | quote }}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
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
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "signalbus-relay.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* A relay answers to names that it knows: those of the Service and of the Ingress are added to the user's. */ -}}
{{- define "signalbus-relay.hosts" -}}
{{- $hosts := list -}}
{{- with .Values.options.HTTP_HOSTS -}}{{- $hosts = append $hosts . -}}{{- end -}}
{{- if and .Values.service.enabled (not .Values.sidecar) -}}
{{- $name := include "signalbus-relay.name" . -}}
{{- $hosts = concat $hosts (list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace)) -}}
{{- with .Values.ingress -}}{{- if .enabled -}}{{- $hosts = append $hosts .host -}}{{- end -}}{{- end -}}
{{- end -}}
{{- join "," $hosts -}}
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

{{- define "signalbus-relay.volumes" -}}
- {{- include "signalbus-relay.volume" . | nindent 2 }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "signalbus-relay.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- /* For the application's chart: under initContainers, and under volumes. A broker that is away must not take the
application out of service, so the relay has no readiness probe here. */ -}}
{{- define "signalbus-relay.sidecar" -}}
{{ include "signalbus-relay.container" . }}
restartPolicy: Always
command: [signalbus-relay]
args: [run]
{{- end -}}
